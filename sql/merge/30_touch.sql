-- Finds the entities that the drop names, and what has to be done for them: see make_stage.
-- In: stage_change, ledger. Out: touched.
insert into touched (entity_uid, since, changes, is_known, is_replayed, is_extended, is_refolded)
select entity_uid, since, changes, is_known, is_replayed,
       is_plain and not is_known and not is_repeated,
       (is_known or not is_plain) and not is_replayed and not is_repeated
from (
    select entity_uid, min(change_ts) as since, count(*) as changes, bool_and(op = 'upsert') as is_plain,
           bool_or(known_ts >= change_ts) as is_known,
           count(*) = 1 and bool_and(is_same and known_ts = change_ts) as is_replayed,
           bool_and(is_same and known_ts < change_ts) as is_repeated
    from (
        select s.entity_uid, s.change_ts, s.op, coalesce(l.change_ts, '-infinity') as known_ts,
               coalesce(l.op = s.op
                        and l.display_name is not distinct from s.display_name
                        and l.entity_type_id is not distinct from s.entity_type_id
                        and l.details is not distinct from s.details, false) as is_same
        from stage_change s
        left join lateral (
            select * from ledger
            where ledger.entity_uid = s.entity_uid
            order by ledger.change_ts desc, ledger.batch_id desc, ledger.row_no desc
            limit 1
        ) l on true
    ) compared
    group by entity_uid
) named
