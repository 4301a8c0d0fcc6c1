"""The program that matches workers to the backlog."""
