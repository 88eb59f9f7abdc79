"""What a task is: its states, its row, and every statement that changes a state."""
