-- Create the bare table that receives the details of a drop as fast as COPY can. In, out: nothing.
create unlogged table limit_detail (row_no integer, entity_uid uuid, detail_type text, detail_value text, hashdiff bytea)
