"""``import paddle`` for scripts of fluid 1.x, answered by fluidc in the process that runs the script."""
