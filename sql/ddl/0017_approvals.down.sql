-- Approvals are no longer kept with their batches.
drop table approval;
