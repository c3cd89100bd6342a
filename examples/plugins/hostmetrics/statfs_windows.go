package main

import "errors"

func statfs(string) (usage, error) { return usage{}, errors.ErrUnsupported }
