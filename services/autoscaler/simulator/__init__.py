"""What would have happened: a load is replayed under any policy, with a virtual clock."""
