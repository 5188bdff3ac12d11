"""What the promises are proved with: two ledgers that outlive any process, and a checker that compares."""
