-- Let what follows in this transaction use one connection for each machine, and these shards for each table.
-- In: shards. Out: nothing.
select set_config('citus.multi_shard_modify_mode', 'sequential', true), set_config('citus.shard_count', %(shards)s::text, true),
       set_config('client_min_messages', 'warning', true)
