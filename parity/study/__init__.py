"""Many trainings that answer a question: what they are, who does which, and what they come to."""
