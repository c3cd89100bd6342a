package dispatch

import "errors"

// Errors that callers branch on, always wrapped in a sentence.
var (
	// ErrInvalid: the task, or what is asked for, cannot be.
	ErrInvalid = errors.New("invalid task")
	// ErrQueueFull: as many tasks as QueueConfig.MaxQueued are not finished yet.
	// Submit again later.
	ErrQueueFull = errors.New("the queue of tasks is full")
	// ErrNotFound: there is no such task, or not any more.
	ErrNotFound = errors.New("no such task")
	// ErrFinished: the task has ended, so that there is nothing to cancel, or
	// nothing to retry.
	ErrFinished = errors.New("the task is finished")
	// ErrNotFinished: the task has not ended yet.
	ErrNotFinished = errors.New("the task is not finished")
	// ErrConflict: another task has the same id or the same idempotency key.
	ErrConflict = errors.New("another task has the same name")
	// ErrNoAgent: a task for all agents that match found none.
	ErrNoAgent = errors.New("no agent can take the task")
	// ErrSchema: a newer version has written it.
	ErrSchema = errors.New("written by a newer version")
)
