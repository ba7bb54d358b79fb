package host

import (
	"fmt"
	"os"
	"path/filepath"
)

// settingsFiles are read by Dragonboat from the working directory when the
// process starts, and silently change limits and the format of the log.
var settingsFiles = []string{"dragonboat-soft-settings.json", "dragonboat-hard-settings.json"}

// checkSettingsFiles refuses to run beside a settings file in dir.
func checkSettingsFiles(dir string) error {
	for _, name := range settingsFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s would change the raft log's settings: remove it and start again", path)
		} else if !os.IsNotExist(err) {
			return fmt.Errorf("look for settings file: %w", err)
		}
	}
	return nil
}
