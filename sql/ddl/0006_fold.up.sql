-- The fold: from a set of changes to versions (the rules of the contract, section 2), written once as three views over
-- a relation `events` (entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details).
-- make_fold() makes them in the first schema of the search path: once in `known` for reads as known at an instant,
-- and in each merge's own schema, where `events` is the part of the ledger that a late change reopens.
create function make_fold() returns void language plpgsql as $make_fold$
begin
    -- One row a change that has an effect, in the order of the walk. A patch has none unless the last complete change or
    -- deletion before it was complete; it keeps the name and type it does not set. A change's details end where its life does.
    create view walk as
    select entity_uid, step, change_ts, op, details, life_ends_at, life_ends_step,
           first_value(display_name) over (partition by entity_uid, name_no order by step) as display_name,
           first_value(entity_type_id) over (partition by entity_uid, type_no order by step) as entity_type_id
    from (
        select entity_uid, step, change_ts, op, details, display_name, entity_type_id,
               count(display_name) over (partition by entity_uid order by step) as name_no,
               count(entity_type_id) over (partition by entity_uid order by step) as type_no,
               max(change_ts) filter (where op = 'delete') over (partition by entity_uid, life) as life_ends_at,
               max(step) filter (where op = 'delete') over (partition by entity_uid, life) as life_ends_step
        from (
            select *, first_value(op) over (partition by entity_uid, turn order by step) as governed_by
            from (
                select *,
                       row_number() over ordered as step,
                       count(*) filter (where op <> 'patch') over ordered as turn,
                       count(*) filter (where op = 'delete')
                           over (ordered rows between unbounded preceding and 1 preceding) as life
                from events
                window ordered as (partition by entity_uid order by change_ts, batch_id, row_no)
            ) counted
        ) governed
        where op = 'delete' or governed_by = 'upsert'
    ) effective;

    -- The entity's versions: the last state of each instant, equal neighbours made one, gaps where it was deleted. A gap is
    -- one run of no state, so the next version is the next run or the one after it.
    create view folded_entity as
    select entity_uid, display_name, entity_type_id, hashdiff, valid_from, valid_to, next_from, valid_to is null as is_current
    from (
        select entity_uid, display_name, entity_type_id, hashdiff, change_ts as valid_from,
               lead(change_ts) over ordered as valid_to,
               case when lead(hashdiff) over ordered is not null then lead(change_ts) over ordered
                    else lead(change_ts, 2) over ordered end as next_from
        from (
            select *, lag(hashdiff) over (partition by entity_uid order by change_ts) as hashdiff_before
            from (
                select distinct on (entity_uid, change_ts)
                       entity_uid, change_ts, display_name, entity_type_id,
                       case when op <> 'delete' then entity_hashdiff(display_name, code) end as hashdiff
                from walk
                left join entity_type using (entity_type_id)
                order by entity_uid, change_ts, step desc
            ) standing
        ) compared
        where hashdiff is distinct from hashdiff_before
        window ordered as (partition by entity_uid order by change_ts)
    ) runs
    where hashdiff is not null;

    -- The details' versions, likewise; the end of a life ends what it carried.
    create view folded_detail as
    select entity_uid, detail_type_id, detail_value, hashdiff, valid_from, valid_to, next_from, valid_to is null as is_current
    from (
        select entity_uid, detail_type_id, detail_value, hashdiff, change_ts as valid_from,
               lead(change_ts) over ordered as valid_to,
               case when lead(hashdiff) over ordered is not null then lead(change_ts) over ordered
                    else lead(change_ts, 2) over ordered end as next_from
        from (
            select *, lag(hashdiff) over (partition by entity_uid, detail_type_id order by change_ts) as hashdiff_before
            from (
                select distinct on (entity_uid, detail_type_id, change_ts)
                       entity_uid, detail_type_id, change_ts, detail_value,
                       case when detail_value is not null
                            then detail_hashdiff(code, detail_value, compares) end as hashdiff
                from (
                    select walk.entity_uid, detail_type_id, code, compares, moment.*
                    from walk
                    cross join jsonb_each_text(walk.details) as listed (code, detail_value)
                    join detail_type using (code)
                    cross join lateral (values (walk.change_ts, walk.step, listed.detail_value),
                                               (walk.life_ends_at, walk.life_ends_step, null))
                        as moment (change_ts, step, detail_value)
                    where moment.change_ts is not null
                ) moments
                order by entity_uid, detail_type_id, change_ts, step desc
            ) standing
        ) compared
        where hashdiff is distinct from hashdiff_before
        window ordered as (partition by entity_uid, detail_type_id order by change_ts)
    ) runs
    where hashdiff is not null;
end
$make_fold$;

-- Reads as known at an instant: the schema `known` has the names of the tables, so with it first in the search path the
-- same queries answer from the changes recorded up to the setting crm.known_at.
create schema known;
create view known.ledger as
select * from ledger
where batch_id <= (select max(batch_id) from batch where recorded_at <= current_setting('crm.known_at')::timestamptz);

create function known.events_of_the_ledger() returns void language plpgsql as $events$
begin
    perform set_config('search_path', 'known, ' || current_setting('search_path'), true);
    create view known.events as
    select entity_uid, change_ts, batch_id, row_no, op, display_name, entity_type_id, details from known.ledger;
    perform make_fold();
    create view known.entity as select * from known.folded_entity;
    create view known.entity_detail as select * from known.folded_detail;
    perform set_config('search_path', regexp_replace(current_setting('search_path'), '^known, ', ''), true);
end
$events$;
select known.events_of_the_ledger();
drop function known.events_of_the_ledger();
