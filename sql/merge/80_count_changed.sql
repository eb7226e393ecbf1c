-- Count the instants of the drop's changes at which a timeline now differs: one change counts for each instant.
-- In: named_entity, staged_change, entity_difference, detail_difference. Out: rows_changed.
select (select count(*) from named_entity where route = 'new')
     + (select count(*)
        from (
            select s.entity_uid, s.change_ts
            from named_entity n
            join staged_change s on s.entity_uid = n.entity_uid
            where n.route in ('splice', 'fold')
            intersect (
                select entity_uid, case action when 'end' then least(valid_to, old_to) else valid_from end from entity_difference
                union all
                select entity_uid, valid_to from entity_difference where action = 'insert'
                union all
                select entity_uid, case action when 'end' then least(valid_to, old_to) else valid_from end from detail_difference
                union all
                select entity_uid, valid_to from detail_difference where action = 'insert'
            )
        ) changed)
