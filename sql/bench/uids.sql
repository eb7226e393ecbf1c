-- Return some current entities, spread over all.
-- In: limit. Out: entity_uid.
select entity_uid from entity tablesample bernoulli (5) where is_current limit %(limit)s
