"""At home elsewhere: our neurons in SpikingJelly and snnTorch, theirs in ours, and graphs in NIR."""
