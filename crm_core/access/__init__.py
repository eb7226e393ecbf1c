"""Who may do what: API tokens, accounts of people, and their sessions."""
