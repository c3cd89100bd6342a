package upgrade

// There are no process groups.

func standApart() (group int, err error) { return 0, nil }

func comeBack(int) error { return nil }

func killGroup(int) {}
