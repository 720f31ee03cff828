const api = "/api/v1/patients";
const list = document.querySelector("#patients");

async function show() {
  const patients = await (await fetch(api)).json();
  list.replaceChildren(...patients.map(({ name }) => Object.assign(document.createElement("li"), { textContent: name })));
  const { count } = await (await fetch(`${api}/count`)).json();
  document.querySelector("#count").textContent = `${count} patients`;
}

document.querySelector("#admission").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = new FormData(event.target).get("name");
  await fetch(api, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name }) });
  event.target.reset();
  await show();
});

show();
