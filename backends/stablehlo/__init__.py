"""The waist: one StableHLO lowering per `tw` op, shared by every backend; import of foreign StableHLO; its interpreter."""
