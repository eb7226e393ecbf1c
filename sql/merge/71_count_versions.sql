-- Counts the versions that the merge added.
-- In: entity_diff, detail_diff. Out: entity_versions_added, detail_versions_added.
select (select count(*) from entity_diff where action = 'open'), (select count(*) from detail_diff where action = 'open')
