"""Lower bounds on the bottleneck of every partition; each module states and proves its own."""
