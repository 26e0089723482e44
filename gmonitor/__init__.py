"""gmonitor: starts a few tasks, shows them live, and lets one end the generator and watch."""
