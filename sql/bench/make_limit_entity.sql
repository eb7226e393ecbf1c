-- Create the bare table that receives the entities of a drop as fast as COPY can. In, out: nothing.
create unlogged table limit_entity (
    row_no integer, entity_uid uuid, change_ts timestamptz, display_name text, entity_type_id smallint, hashdiff bytea)
