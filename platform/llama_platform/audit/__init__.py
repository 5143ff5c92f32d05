"""The audit trail: who asked what, and who changed what, in records that are chained by hash."""
