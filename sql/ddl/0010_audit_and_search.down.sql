-- Takes the indexes of the audit across entities, and of the search by a part of a detail, away again.
drop statistics if exists entity_detail_search_form;
drop index if exists entity_detail_by_part_of_value;
drop index batch_by_actor;
drop index ledger_by_detail_type;
drop index ledger_by_op;
