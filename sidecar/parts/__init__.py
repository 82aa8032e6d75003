"""One file for each thing that connecting registers: which are ours, what has drifted, the steps, the word of `status`. Pure."""
