"""What stages really take: measured in a chain, streamed, simulated, and the loop that corrects costs."""
