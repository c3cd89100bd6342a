package main

import (
	"context"
	"log/slog"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/agentd/internal/settings"
	"github.com/perennial-go/perennial/examples/internal/spool"
)

// settingsPrefix begins the names of the variables that are settings; other
// AGENTD_ variables stand for flags.
const settingsPrefix = "AGENTD_CONFIG_"

// loadSettings makes the store of settings. What is not read where it is used
// is subscribed to.
func (s *service) loadSettings(logger *slog.Logger) (err error) {
	s.settings, err = config.New(config.Config[settings.Settings]{
		Default:   settings.Settings{Log: settings.Log{Level: s.flags.logs.start}},
		Files:     s.flags.settings,
		EnvPrefix: settingsPrefix,
		Logger:    logger,
	})
	if err != nil {
		return err
	}
	_, err = config.Sub(s.settings, "log level",
		func(now *settings.Settings) settings.Log { return now.Log },
		func(_ context.Context, _, now settings.Log) error {
			s.flags.logs.level.Set(now.SlogLevel())
			return nil
		})
	return err
}

func (s *service) followSpool(sp *spool.Spool) error {
	_, err := config.Sub(s.settings, "spool",
		func(now *settings.Settings) settings.Spool { return now.Spool },
		func(_ context.Context, _, now settings.Spool) error {
			sp.SetMaxFileBytes(now.MaxFileBytes)
			return nil
		})
	return err
}
