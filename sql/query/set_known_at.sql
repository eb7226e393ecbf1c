-- Sets the instant as of which the views of the schema `known` know the ledger, for this transaction.
-- In: known_at. Out: nothing.
select set_config('crm.known_at', %(known_at)s, true)
