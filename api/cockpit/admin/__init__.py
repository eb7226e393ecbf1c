"""The admin panel: pages of the cockpit for accounts with the role admin."""
