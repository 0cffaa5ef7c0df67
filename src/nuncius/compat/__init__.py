"""The documented interfaces of other clients, on nuncius: who changes an import line needs to change nothing else."""
