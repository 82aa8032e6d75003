"""The rules, a module for each thing they are about. Each says in its docstring what it does in which profile."""
