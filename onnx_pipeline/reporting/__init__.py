"""One offline HTML page about a split or a plan."""
