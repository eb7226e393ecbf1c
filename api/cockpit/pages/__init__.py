"""The pages of the cockpit, a module each; `picture` and `beliefs` draw those of an entity."""
