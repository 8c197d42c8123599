"""What every controller stands on: clock, work queue, informers, the reconcile loop, events, components."""
