-- Count what a retraction does.
-- In: affected_change, entity_difference, detail_difference. Out: changes that begin to act or act no more, repeats that stand in
-- their place, entities of which a version differs.
select (select count(*) from affected_change where not is_kept),
       (select count(*) from affected_change where is_kept),
       (select count(*)
        from (select entity_uid from entity_difference union select entity_uid from detail_difference) differing)
