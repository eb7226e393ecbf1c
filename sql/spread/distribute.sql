-- Distribute a table by entity_uid, each shard beside that of the other tables with the same entities.
-- In: name. Out: nothing.
select create_distributed_table(%(name)s::text::regclass, 'entity_uid', colocate_with => case when %(name)s = 'entity' then 'none' else 'entity' end)
