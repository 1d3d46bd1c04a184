"""Files of every format, damaged at random, and every reader of them."""
