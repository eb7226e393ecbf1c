-- Discard repeats: all changes of an entity about which the drop says nothing new; among several changes of an entity those that
-- come before anything new at their instant, and a row that repeats the row before it, of the same source. So the last line of an
-- instant wins.
-- In: named_entity, ledger, drops_repeats. Out: fewer rows in staged_change.
delete from staged_change s
using (
    select n.entity_uid, c.row_no
    from named_entity n
    join staged_change c on c.entity_uid = n.entity_uid
    where n.changes = n.repeats
    union all
    select entity_uid, row_no
    from (
        select n.entity_uid, c.row_no,
               %(drops_repeats)s and bool_and(l.is_repeat) over of_instant as is_repeat,
               is_same_change(lag(c.op) over of_instant, lag(c.display_name) over of_instant,
                              lag(c.entity_type_id) over of_instant, lag(c.details) over of_instant,
                              c.op, c.display_name, c.entity_type_id, c.details)
               and lag(c.source_id) over of_instant is not distinct from c.source_id as is_said_twice
        from named_entity n
        join staged_change c on c.entity_uid = n.entity_uid
        cross join lateral compare_with_ledger(
            c.entity_uid, c.change_ts, c.op, c.display_name, c.entity_type_id, c.details, c.source_id) l
        where n.changes > 1 and n.changes > n.repeats
        window of_instant as (partition by n.entity_uid, c.change_ts order by c.row_no)
    ) said
    where is_repeat or is_said_twice
) discarded
where s.entity_uid = discarded.entity_uid and s.row_no = discarded.row_no
