-- Indexes for the largest kinds of sums, where a filter wants few of a kind's records: they tell
-- statuses apart, which makes them some eight times as many as those that do not.
CREATE INDEX usage_sums_days_models_statuses_status
  ON metrion.usage_sums_days_models_statuses (account_id, status, begin);
CREATE INDEX usage_sums_days_models_statuses_model
  ON metrion.usage_sums_days_models_statuses (account_id, model, begin);
CREATE INDEX usage_sums_days_requesters_statuses_status
  ON metrion.usage_sums_days_requesters_statuses (account_id, status, begin);
CREATE INDEX usage_sums_days_requesters_statuses_requester
  ON metrion.usage_sums_days_requesters_statuses (account_id, requester, begin);
