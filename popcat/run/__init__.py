"""Work on Dask: the client, the tasks in flight, progress. Nothing else of popcat knows how a task is run."""
