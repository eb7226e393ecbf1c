-- Find the entities that the drop names and the route of each (see create_stage), and count them by route.
-- In: staged_change, ledger, batch_id, drops_repeats (false: a repeated change is recorded again). Out: named_entity; the numbers of all
-- entities, of repeats and of outdated ones, and of those entities that are repeated, new, spliced, folded, with several changes,
-- with changes at the same instant, brought into the scope of a snapshot by a repeat; rows_late.
with named as (
    insert into named_entity (entity_uid, since, changes, repeats, outdated, said_in, said_at, late, has_tie, effect_of, route)
    select entity_uid, min(change_ts) filter (where not is_repeat or may_be_ended), count(*), count(*) filter (where is_repeat),
           count(*) filter (where is_repeat and is_outdated), min(said_in), min(said_at),
           count(*) filter (where last_ts > change_ts and not is_repeat), bool_or(has_tie and not is_repeat),
           case when bool_or(is_repeat and may_be_ended) then %(batch_id)s::bigint end,
           case
               when bool_and(is_repeat and not may_be_ended) then 'repeat'
               when count(*) > 1 or bool_or(has_tie or has_later_patch or may_be_ended or op = 'patch') then 'fold'
               when bool_and(is_confirmation) then 'confirm'
               when bool_and(last_ts is null and op = 'upsert') then 'new'
               else 'splice'
           end
    from (
        select s.entity_uid, s.change_ts, s.op, l.said_in, l.said_at, l.is_outdated, l.last_ts, l.is_confirmation, l.has_tie,
               l.has_later_patch, l.may_be_ended,
               l.is_repeat and %(drops_repeats)s as is_repeat
        from staged_change s
        cross join lateral compare_with_ledger(
            s.entity_uid, s.change_ts, s.op, s.display_name, s.entity_type_id, s.details, s.source_id) l
    ) compared
    group by entity_uid
    returning changes, repeats, outdated, late, has_tie, effect_of, route
)
select count(*), coalesce(sum(repeats), 0), coalesce(sum(outdated), 0), count(*) filter (where route = 'repeat'), count(*) filter (where route = 'new'),
       count(*) filter (where route = 'splice'), count(*) filter (where route = 'fold'),
       count(*) filter (where changes > 1 and route <> 'repeat'), count(*) filter (where has_tie),
       count(effect_of), coalesce(sum(late), 0)
from named
