-- The splice: what one change does to the stored versions. A change at `its_ts` that asserts a value for a key (the entity's name and
-- type, or one detail) holds until the next change of the ledger that asserts that key, or for ever. So: cut what covers its_ts,
-- insert the value until then, unite it with an equal neighbour. A null value (a detail that ends, a deletion) only cuts.
-- This is the fold for one change that shares its instant with no other and is followed by no patch; anything else is folded.
-- In: the change; is_late, whether the ledger has later changes of the entity.
-- Out: the actions `end` (valid_from of the version, its new valid_to, its old one), `delete` (valid_from), `insert` (a version).

create or replace function entity_splice(
    its_uid uuid, its_ts timestamptz, its_op text, its_name text, its_type_id smallint, its_hashdiff bytea, is_late boolean)
returns table (
    action text, valid_from timestamptz, valid_to timestamptz, old_to timestamptz,
    display_name text, entity_type_id smallint, hashdiff bytea)
language sql stable rows 2 as $$
    select act.action, act.valid_from, act.valid_to, act.old_to, act.display_name, act.entity_type_id, act.hashdiff
    from (values (1)) as one (row)
    left join lateral (  -- the version that its_ts cuts, if it still holds then
        select e.*, e.valid_to is null or e.valid_to > its_ts as is_cut
        from entity e
        where e.entity_uid = its_uid and e.valid_from < its_ts
        order by e.valid_from desc
        limit 1
    ) before on true
    left join lateral (  -- the next change that asserts the name and type
        select l.change_ts
        from ledger l
        where is_late and l.entity_uid = its_uid and l.change_ts > its_ts and l.op <> 'patch' and l.acts
        order by l.change_ts
        limit 1
    ) next on true
    left join entity after on is_late and after.entity_uid = its_uid and after.valid_from = next.change_ts
    cross join lateral (  -- the value asserted; hashdiff is null for a deletion, and for a patch of nothing
        select coalesce(its_name, before.display_name) as display_name,
               coalesce(its_type_id, before.entity_type_id) as entity_type_id,
               case when its_op = 'upsert' then its_hashdiff
                    when its_op = 'patch' and before.is_cut then entity_hashdiff(
                        coalesce(its_name, before.display_name),
                        (select et.code from entity_type et
                         where et.entity_type_id = coalesce(its_type_id, before.entity_type_id))) end as hashdiff
    ) asserted
    cross join lateral (values
        ('end', before.valid_from, its_ts, before.valid_to, null, null, null, before.is_cut),
        ('delete', next.change_ts, null, null, null, null, null, after.hashdiff = asserted.hashdiff),
        ('insert', its_ts, case when after.hashdiff = asserted.hashdiff then after.valid_to else next.change_ts end, null,
         asserted.display_name, asserted.entity_type_id, asserted.hashdiff, asserted.hashdiff is not null),
        ('insert', next.change_ts, before.valid_to, null, before.display_name, before.entity_type_id, before.hashdiff,
         before.is_cut and next.change_ts < coalesce(before.valid_to, 'infinity'))
    ) as act (action, valid_from, valid_to, old_to, display_name, entity_type_id, hashdiff, is_needed)
    where act.is_needed and not (before.is_cut and before.hashdiff is not distinct from asserted.hashdiff)
$$;

create or replace function detail_splice(
    its_uid uuid, its_ts timestamptz, its_op text,
    its_codes text[], its_values text[], its_hashdiffs bytea[], is_late boolean)
returns table (
    detail_type_id smallint, action text, valid_from timestamptz, valid_to timestamptz, old_to timestamptz,
    detail_value text, hashdiff bytea)
language sql stable rows 4 as $$
    select asserted.detail_type_id, act.action, act.valid_from, act.valid_to, act.old_to, act.detail_value, act.hashdiff
    from (
        select dt.detail_type_id, dt.code, listed.detail_value, listed.hashdiff
        from unnest(its_codes, its_values, its_hashdiffs) as listed (code, detail_value, hashdiff)
        join detail_type dt on dt.code = listed.code
        union all  -- a deletion ends every detail
        select d.detail_type_id, null, null, null
        from entity_detail d
        where its_op = 'delete' and d.entity_uid = its_uid
          and d.valid_from < its_ts and (d.valid_to > its_ts or d.valid_to is null)
    ) asserted
    left join lateral (
        select d.*, d.valid_to is null or d.valid_to > its_ts as is_cut
        from entity_detail d
        where d.entity_uid = its_uid and d.detail_type_id = asserted.detail_type_id and d.valid_from < its_ts
        order by d.valid_from desc
        limit 1
    ) before on true
    left join lateral (  -- the next change that asserts this detail: of several at one instant the last
        select l.change_ts, l.details ->> dt.code as detail_value
        from ledger l
        join detail_type dt on dt.detail_type_id = asserted.detail_type_id
        where is_late and l.entity_uid = its_uid and l.change_ts > its_ts and l.acts
          and (l.op = 'delete' or l.details ? dt.code)
        order by l.change_ts, l.batch_id desc, l.row_no desc
        limit 1
    ) next on true
    left join entity_detail after on is_late and after.entity_uid = its_uid
        and after.detail_type_id = asserted.detail_type_id and after.valid_from = next.change_ts
    cross join lateral (values
        ('end', before.valid_from, its_ts, before.valid_to, null, null, before.is_cut),
        ('delete', next.change_ts, null, null, null, null, after.hashdiff = asserted.hashdiff),
        ('insert', its_ts, case when after.hashdiff = asserted.hashdiff then after.valid_to else next.change_ts end, null,
         asserted.detail_value, asserted.hashdiff, asserted.hashdiff is not null),
        ('insert', next.change_ts, before.valid_to, null, next.detail_value, before.hashdiff,
         before.is_cut and next.change_ts < coalesce(before.valid_to, 'infinity'))
    ) as act (action, valid_from, valid_to, old_to, detail_value, hashdiff, is_needed)
    where act.is_needed and not (before.is_cut and before.hashdiff is not distinct from asserted.hashdiff)
$$;
