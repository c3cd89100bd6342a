package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// pollEvery is the pause between two requests of a poll, and so the
// resolution of what it measures.
const pollEvery = time.Millisecond

// answer is what both servers say of themselves.
type answer struct {
	PID int `json:"pid"`
	// Started is when the process's own code began to run: after the
	// kernel's exec, Go's start and the initialisation of all packages.
	Started time.Time `json:"started"`
	at      time.Time // when it arrived
}

// whoAnswers asks over a fresh connection.
func whoAnswers(ctx context.Context, url string) (answer, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: 20 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/info", nil)
	if err != nil {
		return answer{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("%s answers %s", url, res.Status)
	}
	var a answer
	err = json.NewDecoder(res.Body).Decode(&a)
	a.at = time.Now()
	return a, err
}

// firstAnswer polls until another process than old answers. A request that
// fails on the way, as tableflip's may, is no answer.
func firstAnswer(ctx context.Context, url string, old int) (a answer, failed int, err error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		a, err := whoAnswers(ctx, url)
		if err == nil && a.PID != old {
			return a, failed, nil
		}
		if err != nil {
			failed++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return answer{}, failed, errors.Join(ctx.Err(), err)
		}
	}
}
