"""What is added to Flower: a page of dead letters, a Revoke that says what came of it, closed metrics."""
