"""Speed and memory, side by side; ``recurra bench`` runs these."""
