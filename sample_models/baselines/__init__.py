"""What scikit-learn, or a rule of thumb, reaches on the rows and the split of a config."""
