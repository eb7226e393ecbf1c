-- The promises of the product's entity table on dlt's: versions of an entity do not overlap, and one is current.
-- In: the table that dlt made. Out: nothing; run again it changes nothing.
create extension if not exists btree_gist;
do $$
begin
    if not exists (select from pg_constraint where conname = 'exclude_overlapping_entities') then
        alter table crm.entity add constraint exclude_overlapping_entities exclude using gist (
            entity_uid with =,
            tstzrange(_dlt_valid_from, coalesce(_dlt_valid_to, 'infinity'), '[)') with &&
        );
        create unique index unique_current_entity on crm.entity (entity_uid) where _dlt_valid_to is null;
    end if;
end
$$
