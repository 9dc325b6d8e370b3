"""The paper's data set, drawn from the Stanford Cars folder."""
