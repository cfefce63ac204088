"""Models leave: exported as native libraries, with what goes with them."""
