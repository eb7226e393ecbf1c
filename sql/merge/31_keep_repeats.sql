-- Keep what is a repeat, in the order of its key: it stands in the place of what it repeats when that is undone. See 32_discard_repeats.
-- In: named_entity, staged_change, ledger, batch_id. Out: repeat.
insert into repeat (entity_uid, change_ts, batch_id, row_no, of_batch_id, of_row_no, source_id)
select entity_uid, change_ts, %(batch_id)s, row_no, said_in, said_at, source_id
from (
    select c.entity_uid, c.change_ts, c.row_no, n.said_in, n.said_at, c.source_id
    from named_entity n
    join staged_change c on c.entity_uid = n.entity_uid
    where n.changes = 1 and n.repeats = 1
    union all
    select entity_uid, change_ts, row_no, said_in, said_at, source_id
    from (
        select n.entity_uid, c.change_ts, c.row_no, l.said_in, l.said_at, c.source_id,
               bool_and(l.is_repeat) over of_instant as is_repeat,
               is_same_change(lag(c.op) over of_instant, lag(c.display_name) over of_instant,
                              lag(c.entity_type_id) over of_instant, lag(c.details) over of_instant,
                              c.op, c.display_name, c.entity_type_id, c.details)
               and lag(c.source_id) over of_instant is not distinct from c.source_id as is_said_twice
        from named_entity n
        join staged_change c on c.entity_uid = n.entity_uid
        cross join lateral compare_with_ledger(
            c.entity_uid, c.change_ts, c.op, c.display_name, c.entity_type_id, c.details, c.source_id) l
        where n.changes > 1 and n.repeats > 0
        window of_instant as (partition by n.entity_uid, c.change_ts order by c.row_no)
    ) said
    where is_repeat and is_said_twice is not true
) kept
order by entity_uid, change_ts, row_no
