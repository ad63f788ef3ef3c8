"""What every storage must do, as one suite."""
