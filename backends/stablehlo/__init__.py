"""The waist: one StableHLO lowering per `tw` op, for all backends; import of foreign StableHLO; its interpreter."""
