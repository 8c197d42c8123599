"""Pure decisions of the run engine: no await, no client, no clock."""
